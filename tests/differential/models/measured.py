# SPDX-License-Identifier: Apache-2.0
"""Does with metrics of its own what PLAN says, and answers with what came of each step.

PLAN is a JSON array of steps: ["family", key, name, text, kind], ["metric", key, family key, labels, buckets],
[increment | set | observe, metric key, value], ["value", metric key], ["forget", key].
"""

import gc
import json

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.kept = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        plan = json.loads(pb_utils.get_input_tensor_by_name(request, "PLAN").as_numpy().reshape(-1)[0])
        # the other way round it has ended Triton: metrics go before their families
        for key in reversed(list(self.kept)):
            del self.kept[key]
        notes = []
        for step in plan:
            try:
                notes.append(self.take(*step))
            except Exception as error:
                notes.append(["raised", type(error).__name__, str(error)])
        text = np.array([json.dumps(notes).encode()], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("NOTES", text)])

    def take(self, step, key, *rest):
        if step == "family":
            name, text, kind = rest
            self.kept[key] = pb_utils.MetricFamily(
                name=name, description=text, kind=getattr(pb_utils.MetricFamily, kind)
            )
        elif step == "metric":
            family, labels, *buckets = rest
            options = {"buckets": buckets[0]} if buckets else {}
            self.kept[key] = self.kept[family].Metric(labels=labels, **options)
        elif step == "forget":
            del self.kept[key]
            gc.collect()
        elif step == "value":
            return self.kept[key].value()
        else:
            getattr(self.kept[key], step)(*rest)
        return "done"
