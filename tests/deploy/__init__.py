"""``modelyard deploy``, on our own endpoint as SageMaker; what is around it is moto's."""
