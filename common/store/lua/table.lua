-- Tells which workers have changed. Keys: table, loads, worker:{id}, worker:{id}:calls (schema: _prelude.lua).
-- ARGV: version of the table, version of the loads, limit of rows (four times as many of
-- loads, which are short). Returns {records, loads}: `rows_since`.
local limit = tonumber(ARGV[3])
return {rows_since(TABLE, ARGV[1], limit, record_row), rows_since(LOADS, ARGV[2], 4 * limit, load_row)}
