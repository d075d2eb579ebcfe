"""The family file: `sixsmith.yaml` read, checked and expanded into variants.

`load_family` is the way in. It reads YAML as text with places (`text`), checks it against the table of keys (`schema`,
`shapes`, `words`), multiplies the axes (`axes`), merges settings (`settings`) and spells every cell out (`expand`).
"""

from sixsmith.matrix.family import Family
from sixsmith.matrix.load import FILE_NAME, load_family, parse_family
from sixsmith.matrix.select import select, with_parents
from sixsmith.matrix.starter import starter_files

__all__ = ["FILE_NAME", "Family", "load_family", "parse_family", "select", "starter_files", "with_parents"]
