-- The live workers with their loads. Keys: workers, worker:{id}, worker:{id}:calls (schema: _prelude.lua).
-- Returns {{id, calls, {field, value, ...}}, ...}.
return worker_table()
