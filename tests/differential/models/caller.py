# SPDX-License-Identifier: Apache-2.0
"""Calls another model as PLAN says, and answers with all that came back of it.

PLAN is a JSON object: ``model``, ``how`` (exec, async, decoupled, async decoupled), ``input`` (name, numpy type,
values, shape), ``outputs`` and ``options`` of the InferenceRequest, ``times``: so many calls at the same time.
"""

import asyncio
import json

import numpy as np

import triton_python_backend_utils as pb_utils


def told(response):
    if response.has_error():
        return ["error", int(response.error().code()), response.error().message()]
    tensors = response.output_tensors()
    values = [[t.name(), str(t.as_numpy().dtype), str(t.as_numpy().shape), str(t.as_numpy().tolist())] for t in tensors]
    return ["outputs", sorted(values)]


class TritonPythonModel:
    async def execute(self, requests):
        return [await self.answer(request) for request in requests]

    async def answer(self, request):
        plan = json.loads(pb_utils.get_input_tensor_by_name(request, "PLAN").as_numpy().reshape(-1)[0])
        try:
            notes = await self.call(plan)
        except Exception as error:
            notes = ["raised", type(error).__name__, str(error)]
        text = np.array([json.dumps(notes).encode()], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("NOTES", text)])

    async def call(self, plan):
        how = plan.get("how", "exec")
        calls = [self.request(plan, number) for number in range(plan.get("times", 1))]
        if how == "exec":
            return [told(call.exec()) for call in calls]
        if how == "async":
            return [told(response) for response in await asyncio.gather(*[call.async_exec() for call in calls])]
        if how == "decoupled":
            return [[told(response) for response in call.exec(decoupled=True)] for call in calls]
        found = await asyncio.gather(*[call.async_exec(decoupled=True) for call in calls])
        return [[told(response) for response in responses] for responses in found]

    def request(self, plan, number):
        name, kind, values, shape = plan["input"]
        array = np.array(values, dtype=np.object_ if kind == "object" else kind).reshape(shape)
        if number:
            array = array + np.array(number, array.dtype)
        return pb_utils.InferenceRequest(
            model_name=plan["model"],
            requested_output_names=plan["outputs"],
            inputs=[pb_utils.Tensor(name, array)],
            **plan.get("options", {}),
        )
