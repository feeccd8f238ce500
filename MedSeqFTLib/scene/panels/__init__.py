"""The panels of the module, one a file. They may be imported when the module opens, so they import nothing heavy."""
