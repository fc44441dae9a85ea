"""``modelyard deploy`` and ``undeploy``: SageMaker by our own endpoint, what is around it by moto."""
