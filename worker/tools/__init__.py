"""What the model may call: the operator's tools from `TOOLS_DIR`, and the definitions of the built-in ones.

`ToolShed` (in `shed`) loads the files and gives each new call a `Toolbox`; `avr` has the built-in ones. Nothing in
here knows of sessions or links.
"""
