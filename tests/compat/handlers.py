"""Handlers that several row tests use."""

OBEDIENT = '''
import json
import os
import pathlib
import time

from ts.utils.util import PredictionException

def handle(data, context):
    """Do what the first row says: {"do": what, ...}; else say what was received."""
    if data is None:
        return None
    said = data[0].get("body")
    order = said if isinstance(said, dict) else {}
    return globals()[order.get("do", "received")](data, context, order)

def received(data, context, order):
    return [repr(row) for row in data]

def headers(data, context, order):
    return [json.dumps(context.get_all_request_header(i)) for i in range(len(data))]

def value(data, context, order):
    return [row["body"]["value"] for row in data]

def python(data, context, order):
    return [eval(row["body"]["value"]) for row in data]

def pid(data, context, order):
    return [os.getpid() for _ in data]

def nap(data, context, order):
    pathlib.Path(order.get("touch", os.devnull)).touch()
    time.sleep(order["s"])
    return [os.getpid() for _ in data]

def answer(data, context, order):
    context.set_response_status(order.get("status", 200), order.get("phrase", ""), 0)
    for name, value in order.get("headers", {}).items():
        context.set_response_header(0, name, value)
    if "type" in order:
        context.set_response_content_type(0, order["type"])
    return ["text" for _ in data]

def fail(data, context, order):
    raise {"ValueError": ValueError, "MemoryError": MemoryError}[order["kind"]](order["text"])

def refuse(data, context, order):
    raise PredictionException(*order["with"])

def whole(data, context, order):
    return {"tuple": ("a",), "none": None, "two": ["a", "b"], "set": [{1}]}[order["result"]]

def long(data, context, order):
    return ["x" * order["length"]]

def leave(data, context, order):
    os._exit(order["code"])
'''
"""Does what a row's JSON body tells it: raise, sleep, end its process, set headers, ...

`{"do": "nap", "s": 2, "touch": FILE}` makes the file when the call has begun.
"""


BATCHES = '''
import pathlib
import os
import time

def handle(data, context):
    """Answer with the size of the batch and its rows; a row may ask to sleep or to raise."""
    if data is None:
        return None
    rows = [row["body"] for row in data]
    for row in rows:
        pathlib.Path(row.get("touch", os.devnull)).touch()
        time.sleep(row.get("sleep", 0))
    if any(row.get("raise") for row in rows):
        raise ValueError("one row is bad")
    return [{"size": len(rows), "row": row} for row in rows]
'''
"""Says which rows were in a batch together."""
