"""The average algorithm of vantage6's documentation, and methods with which tests see what a run sees.

The functions of this module are the methods that a task can ask for.
"""

from .average import central_average, partial_average
from .surroundings import database_info, read_databases, tmp_list, tmp_read, tmp_write, whoami
from .simple import big, echo, fail, sleep_then

__all__ = [
    "big",
    "central_average",
    "database_info",
    "echo",
    "fail",
    "partial_average",
    "read_databases",
    "sleep_then",
    "tmp_list",
    "tmp_read",
    "tmp_write",
    "whoami",
]
