"""A custom service that says itself how it is parked; answers with the moves that it made."""

import json


class Service:
    def initialize(self, context):
        self.moves = []

    def park(self):
        self.moves.append("park")

    def restore(self, context):
        self.moves.append(f"restore {context.model_name}")

    def handle(self, data, context):
        return [json.dumps(self.moves) for _ in data]
