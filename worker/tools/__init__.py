"""What the model may call: the operator's tools from `TOOLS_DIR`, and the definitions of the built-in ones.

`ToolShed` loads the files and gives each new call a `Toolbox`. It knows nothing of sessions, links or AVR.
"""
