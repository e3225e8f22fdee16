"""Functions that the model may call: the operator's tools from `TOOLS_DIR`, and the built-in tools.

`ToolRegistry` loads the operator's files and gives each new call a `ToolSet`. `built_in` defines the built-in
tools. This package does not import sessions or links.
"""
