"""Run folders that travel: checked, merged, handed to other tools. Records in, files out; imports no torch.

`untrusted` reads what somebody else wrote, `cell_checks` (a cell by itself) and `run_checks` (between cells) check it,
`verify` gives the verdict, `merge` makes one folder of several, `export` writes what other tools read.
"""
