-- SPDX-License-Identifier: Apache-2.0
-- wrk: POST the file $BODY. $HEADER_LENGTH, where set, is the length of its JSON part (binary tensor extension).
-- The request is the same each time, so wrk formats it once and Lua does not run while it measures.
local body = assert(io.open(os.getenv("BODY"), "rb"))
wrk.body = body:read("*a")
body:close()
wrk.method = "POST"
local length = os.getenv("HEADER_LENGTH")
wrk.headers["Content-Type"] = length and "application/octet-stream" or "application/json"
wrk.headers["Inference-Header-Content-Length"] = length
