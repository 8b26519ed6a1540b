"""Checkers of the software GPU, as users of compute-sanitizer know them: memory, races, barriers.

Compiled code watches itself (`codegen/instrument*.py`) and leaves what it finds in a table; this
package has the memory that it looks at, and turns the table into findings.
"""
