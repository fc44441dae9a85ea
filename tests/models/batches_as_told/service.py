"""Answers each element of a batch with the batch's size and its own place and headers.

The body may be a JSON object of orders. For the whole batch: "touch" a file, "wait" for one, "sleep"
seconds, "poison" (the batch raises), "kill" (the process), "extra" results, "no_list". For the
element alone: "fail" with a status, "status", "type", "stream" a number of chunks (with "hold", a
file to wait for after the first).
"""

import json
import os
import signal
import time
from pathlib import Path


class Failed(Exception):
    def __init__(self, status):
        super().__init__(f"told to fail with {status}")
        self.status_code = status


def handle(data, context):
    if data is None:
        return None
    orders = [json.loads(bytes(row["body"]) or b"{}") for row in data]
    for order in orders:
        obey(order)
    answers = [answer(idx, order, data, context) for idx, order in enumerate(orders)]
    if any(order.get("no_list") for order in orders):
        return "no list"
    return answers + ["extra"] * sum(order.get("extra", 0) for order in orders)


def obey(order):
    if "touch" in order:
        Path(order["touch"]).touch()
    while "wait" in order and not Path(order["wait"]).exists():
        time.sleep(0.005)
    if "sleep" in order:
        time.sleep(order["sleep"])
    if order.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if order.get("poison"):
        raise ValueError("poison")


def answer(idx, order, data, context):
    if "fail" in order:
        return Failed(order["fail"])
    if "status" in order:
        context.set_response_status(order["status"], "", idx)
    if "type" in order:
        context.set_response_content_type(idx, order["type"])
    context.set_response_header(idx, "X-Told", context.get_request_header(idx, "X-Tell") or "")
    if "stream" in order:
        return chunks(idx, order)
    return {
        "batch": len(data),
        "idx": idx,
        "id": context.get_request_id(idx),
        "tell": context.get_request_header(idx, "X-Tell"),
        "bytes": len(data[idx]["body"]),
        "pid": os.getpid(),
    }


def chunks(idx, order):
    for number in range(order["stream"]):
        if number == 1:
            obey({"wait": order["hold"]} if "hold" in order else {})
        yield f"{idx}:{number} "
