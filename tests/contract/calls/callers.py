# SPDX-License-Identifier: Apache-2.0
"""Python models that call models, as their authors write them for Triton."""

from __future__ import annotations

__all__ = ["CALLERS", "DECOUPLED", "INNOCENT", "INSTANCES", "SEQUENCES", "passing_on", "source"]

_HEAD = """
import asyncio
import contextvars
import json
import os
import threading

import numpy as np
import triton_python_backend_utils as pb_utils


def ask(model, array, **options):
    return pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=["OUTPUT0"],
        inputs=[pb_utils.Tensor("INPUT0", array)],
        **options,
    )


def output(response):
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    return pb_utils.get_output_tensor_by_name(response, "OUTPUT0").as_numpy()


def answer(array):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)])


def given(request):
    return pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
"""

#: by name: the body of TritonPythonModel; each has INPUT0 and OUTPUT0 of FP32 [-1]
CALLERS = {
    "double": """
    def execute(self, requests):
        return [answer(2 * given(r)) for r in requests]
""",
    "chain": """
    def execute(self, requests):
        return [answer(output(ask("double", output(ask("double", given(r)).exec())).exec())) for r in requests]
""",
    "who": """
    mine = contextvars.ContextVar("mine", default=0)

    def initialize(self, args):
        self.mine.set(args["model_instance_name"])

    def execute(self, requests):
        assert self.mine.get() == "who_0_0"
        return [answer(np.array([[threading.get_native_id(), os.getpid()]], np.float32)) for r in requests]
""",
    "asks_innocent": """
    def execute(self, requests):
        # a way to ask for its thread that the callee's own text does not show
        np.asked_for_thread = threading.get_native_id
        me = np.float32(threading.get_native_id())
        asked = [output(ask("innocent", given(request)).exec())[0, 0] == me for request in requests]
        return [answer(np.array([[same]], np.float32)) for same in asked]
""",
    "asks_who": """
    def execute(self, requests):
        me = [threading.get_native_id(), os.getpid()]
        asked = [output(ask("who", given(request)).exec())[0].tolist() == me for request in requests]
        return [answer(np.array([[same]], np.float32)) for same in asked]
""",
    "gather": """
    async def execute(self, requests):
        responses = []
        for request in requests:
            calls = [ask("double", given(request) + offset).async_exec() for offset in range(5)]
            found = await asyncio.gather(*calls)
            responses.append(answer(sum(output(response) for response in found)))
        return responses
""",
    "texts": """
    def execute(self, requests):
        # what the callee says is handed on with its code
        responses = []
        for request in requests:
            which = json.loads(request.parameters())["which"]
            response = ask(which, given(request)).exec()
            responses.append(pb_utils.InferenceResponse(error=response.error()) if response.has_error() else response)
        return responses
""",
    "itself": """
    def execute(self, requests):
        return [answer(output(ask("itself", given(r)).exec())) for r in requests]
""",
    "ping": """
    def execute(self, requests):
        return [answer(output(ask("pong", given(r)).exec())) for r in requests]
""",
    "pong": """
    def execute(self, requests):
        return [answer(output(ask("ping", given(r)).exec())) for r in requests]
""",
    "factorial": """
    def execute(self, requests):
        responses = []
        for request in requests:
            n = given(request)
            rest = output(ask("factorial", n - 1).exec()) if n[0, 0] > 1 else np.ones_like(n)
            responses.append(answer(n * rest))
        return responses
""",
    "writer": """
    def execute(self, requests):
        # the callee's answer may be the caller's own array: neither may see what is written to the other
        responses = []
        for request in requests:
            mine = np.full((1, 50_000), 3, np.float32)
            theirs = output(ask("echo", mine).exec())
            theirs += 1
            responses.append(answer(np.array([[mine[0, 0], theirs[0, 0]]], np.float32)))
        return responses
""",
    "collector": """
    def execute(self, requests):
        responses = []
        for request in requests:
            values = []
            for response in ask("repeat", given(request)).exec(decoupled=True):
                if response.has_error():
                    raise pb_utils.TritonModelException(response.error().message())
                if response.output_tensors():
                    values.append(output(response)[0, 0])
            responses.append(answer(np.array([values], np.float32)))
        return responses
""",
    "threaded": """
    def execute(self, requests):
        # calls of a thread that the model has started
        responses = []
        for request in requests:
            found = []
            array = given(request)
            thread = threading.Thread(target=lambda: found.append(output(ask("double", array).exec())))
            thread.start()
            thread.join()
            responses.append(answer(found[0]))
        return responses
""",
    "sequence": """
    def execute(self, requests):
        responses = []
        for request in requests:
            values = given(request)[0]
            for index, value in enumerate(values):
                flags = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START if index == 0 else 0
                if index == len(values) - 1:
                    flags |= pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
                # a number and the same as a text are two sequences
                number, text = (
                    output(ask("adding", np.array([[value]], np.float32), correlation_id=key, flags=flags).exec())
                    for key in (77, "77")
                )
                assert number == text, (number, text)
                total = number
            responses.append(answer(total))
        return responses
""",
    "adding": """
    def initialize(self, args):
        self.total = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
                self.total[request.correlation_id()] = 0
            self.total[request.correlation_id()] += given(request)[0, 0]
            responses.append(answer(np.array([[self.total[request.correlation_id()]]], np.float32)))
        return responses
""",
    "repeat": """
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(int(given(request)[0, 0])):
                sender.send(answer(np.array([[number]], np.float32)))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
    "later": """
    async def execute(self, requests):
        # decoupled: a batch is begun while another waits
        await asyncio.gather(*[self.answer_later(request) for request in requests])

    async def answer_later(self, request):
        sender = request.get_response_sender()
        array = given(request)
        await asyncio.sleep(array[0, 0] / 1000)
        found = await ask("double", array).async_exec()
        sender.send(answer(output(found)))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
    "apart": """
    def execute(self, requests):
        # answered by a sender: the request is not in the batch any more when the call is made
        for request in requests:
            sender = request.get_response_sender()
            answered = ask(json.loads(request.parameters())["which"], given(request)).exec()
            sender.send(answer(output(answered)), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
    "apart_later": """
    async def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            answered = await ask(json.loads(request.parameters())["which"], given(request)).async_exec()
            sender.send(answer(output(answered)), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
    "failing": """
    async def execute(self, requests):
        raise ValueError("on purpose")
""",
    "returns_too_much": """
    async def execute(self, requests):
        return []
""",
    "fails_later": """
    async def execute(self, requests):
        await asyncio.sleep(0)
        raise ValueError("on purpose")
""",
}
#: those with a transaction policy of their own, instances, or another scheduler
DECOUPLED = ("repeat", "later", "apart", "apart_later", "fails_later", "returns_too_much")
SEQUENCES = ("adding",)
INSTANCES = {"factorial": 5}


#: says which thread executes it, by a function that its callers put there: its own text knows of no thread
INNOCENT = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        thread = np.asked_for_thread() if hasattr(np, "asked_for_thread") else 0
        answer = pb_utils.Tensor("OUTPUT0", np.array([[thread]], np.float32))
        return [pb_utils.InferenceResponse([answer]) for request in requests]
"""


def source(name: str) -> str:
    """``model.py`` of a caller."""
    return f"{_HEAD}\n\nclass TritonPythonModel:{CALLERS[name]}"


_PASSING_ON = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            call = pb_utils.InferenceRequest(
                model_name="CALLEE", requested_output_names=["OUTPUT0"], inputs=[request.inputs()[0]]
            )
            called = call.exec()
            answers.append(pb_utils.InferenceResponse(error=called.error()) if called.has_error() else called)
        return answers
"""


def passing_on(callee: str) -> str:
    """``model.py`` of one that answers each request with what ``callee`` answers to its first input, errors too."""
    return _PASSING_ON.replace("CALLEE", callee)
