# SPDX-License-Identifier: Apache-2.0
"""The example bls, async: two models are asked at the same time, each gives one of the outputs."""

import asyncio

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        responses = []
        for request in requests:
            tensors = [pb_utils.get_input_tensor_by_name(request, name) for name in ("INPUT0", "INPUT1")]
            calls = [
                pb_utils.InferenceRequest(model_name=name, requested_output_names=[output], inputs=tensors).async_exec()
                for name, output in (("add_sub", "OUTPUT0"), ("add_sub_too", "OUTPUT1"))
            ]
            answers = await asyncio.gather(*calls)
            for answer in answers:
                if answer.has_error():
                    raise pb_utils.TritonModelException(answer.error().message())
            sums = pb_utils.get_output_tensor_by_name(answers[0], "OUTPUT0")
            differences = pb_utils.get_output_tensor_by_name(answers[1], "OUTPUT1")
            responses.append(pb_utils.InferenceResponse(output_tensors=[sums, differences]))
        return responses
