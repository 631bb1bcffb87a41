# SPDX-License-Identifier: Apache-2.0
"""The example custom_metrics: requests and their size are on the server's page; VALUES is what the metrics say."""

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        labels = {"model": "custom_metrics", "version": "1"}
        self.requests = pb_utils.MetricFamily("requests_seen", "Requests", pb_utils.MetricFamily.COUNTER)
        self.latest = pb_utils.MetricFamily("latest_input", "The last input", pb_utils.MetricFamily.GAUGE)
        self.sizes = pb_utils.MetricFamily("inputs_seen", "The inputs", pb_utils.MetricFamily.HISTOGRAM)
        self.count = self.requests.Metric(labels=labels)
        self.last = self.latest.Metric(labels=labels)
        self.spread = self.sizes.Metric(labels=labels, buckets=[0.5, 1.0, 10.0])

    def execute(self, requests):
        responses = []
        for request in requests:
            value = float(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0])
            self.count.increment(1)
            self.last.set(value)
            self.last.increment(-1)
            self.spread.observe(value)
            values = np.array([self.count.value(), self.last.value()], np.float64)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("VALUES", values)]))
        return responses
