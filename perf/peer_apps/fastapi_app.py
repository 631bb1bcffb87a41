# SPDX-License-Identifier: Apache-2.0
"""What one writes without a model server: FastAPI, uvicorn and onnxruntime. It does not batch."""

from __future__ import annotations

from typing import Any

import uvicorn
from fastapi import FastAPI
from peer_model import PORT, Model

__all__ = ["app", "infer", "ready"]

app, _model = FastAPI(), Model()


@app.get("/ready")
async def ready() -> str:
    return "ok"


@app.post("/infer")
async def infer(request: dict[str, Any]) -> dict[str, Any]:
    return {"y": _model.run(request["x"]).tolist()}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False)
