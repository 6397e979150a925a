"""The verbs of the command line: parse, call the function of the same name, print what came out."""
