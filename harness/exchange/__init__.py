"""Run folders that travel: checked, merged, handed to other tools. Records in, files out; imports no torch.

`cells` reads what somebody else wrote, `checks` (a cell by itself) and `across` (between cells) look at it, `verify`
gives the verdict, `merge` makes one folder of several, `export` writes what other tools read.
"""
