"""A multi-model-server custom service as a class: the module's only one."""

import json


class Service:
    def initialize(self, context):
        self.model_dir = context.system_properties["model_dir"]
        self.loads = getattr(self, "loads", 0) + 1

    def handle(self, data, context):
        context.set_response_content_type(0, "application/json")
        return [
            json.dumps({"got": bytes(row["body"]).decode(), "loads": self.loads, "name": context.model_name})
            for row in data
        ]
