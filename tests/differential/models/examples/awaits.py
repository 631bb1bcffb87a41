# SPDX-License-Identifier: Apache-2.0
"""``async def execute`` of a decoupled model: responses are sent by tasks that wait beside each other."""

import asyncio

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        await asyncio.gather(*[self.answer(request) for request in requests])

    async def answer(self, request):
        sender = request.get_response_sender()
        for delay in pb_utils.get_input_tensor_by_name(request, "IN").as_numpy():
            await asyncio.sleep(int(delay) / 1000)
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([delay], np.int32))]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
