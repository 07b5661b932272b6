"""Files to pass on: CSV, Excel workbooks, Parquet and JSON lines, each safe to open.

kd.export.write(records, "records.xlsx", tz="Asia/Shanghai")
"""

from koodrive_nb.export.files import write

__all__ = ["write"]
