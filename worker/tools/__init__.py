"""What the model may call: the operator's tools from `TOOLS_DIR`, and the definitions of the built-in ones.

`ToolRegistry` loads the files and gives each new call a `ToolSet`; `built_in` defines the built-in ones. Nothing
here knows of sessions or links.
"""
