"""The names of columns that the node shares are those that algorithms see: pandas' own, whatever the header."""

import gzip
import json
import subprocess
from pathlib import Path

from harness import nodes
from harness.wait import until

HEADERS = [
    # As R writes it: the first column has no name.
    b'"","age","sex"\n"1",3,"m"\n',
    b"id,age,age\n1,2,3\n",
    b"age,age,age.1\n1,2,3\n",
    b"age.1,age,age,age.1\n1,2,3,4\n",
    b"id,age,\n1,2,\n",
    b",\n1,2\n",
    b'""\n1\n',
    b"Unnamed: 1,,a\n1,2,3\n",
    b",Unnamed: 0\n1,2\n",
    b"a,,Unnamed: 2,Unnamed: 2,\n1,2,3,4,5\n",
    # One more and two more fields than the header: an index.
    b"a,b\n1,2,3\n",
    b"a,b\n1,2,3,4\n",
    b",a\n1,2,3\n",
    b"a,b,c\n1\n",
    b'"a,b","say ""x""","two\nlines"\n1,2,3\n',
    b'"a"x,b"c"," d", e \n1,2,3,4\n',
    b"\xef\xbb\xbfid,age\n1,2\n",
    b'\xef\xbb\xbf\n \n"id",age\n1,2\n',
    b"\n  \n\t\nid,age\n1,2\n",
    b"\r\n\r\nid,age\r\n1,2\r\n",
    b"\rid,age\r1,2\r",
    b"  id,age\n1,2\n",
    b" , \n1,2\n",
    b"id;age\n1;2\n",
    b"a,b",
    b"a\0b,\0\n1,2\n",
    "età,名前,😀\n1,2,3\n".encode(),
    b"1,1.0,NA,NA\n1,2,3,4\n",
    # Those that pandas does not read.
    b"",
    b"\n \n",
    b'a,"b\n1,2\n',
    b"na\xefve,b\n1,2\n",
    "a,b\n".encode("utf-16"),
]

READ = """
import json, pandas, sys
def columns(file):
    try:
        return [str(name) for name in pandas.read_csv(file).columns]
    except Exception:
        return []
print(json.dumps([columns(file) for file in sys.argv[1:]]))
"""


def files(folder: Path) -> list[Path]:
    """A csv file for each header, and compressed ones: well, badly, and of a name that says otherwise."""
    contents = {f"header-{number}.csv": header for number, header in enumerate(HEADERS)}
    plain = HEADERS[0]
    contents |= {
        "good.csv.gz": gzip.compress(plain),
        "capitals.CSV.GZ": gzip.compress(plain),
        "members.csv.gz": gzip.compress(plain[:8]) + gzip.compress(plain[8:]),
        "plain.csv.gz": plain,
        "compressed.csv": gzip.compress(plain),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_columns_are_called_as_pandas_calls_them(local_node, world, tmp_path):
    """A database for each file: the server is told the names that the real pandas gives, or none where it fails."""
    paths = files(tmp_path)
    told = subprocess.run([nodes.tools(), "-c", READ, *paths], capture_output=True, text=True, check=True, timeout=60)
    expected = {f"columns_{path.name.split('.')[0].replace('-', '_')}": names for path, names in zip(paths, json.loads(told.stdout))}
    databases = [{"label": key.removeprefix("columns_"), "uri": str(path), "type": "csv"} for key, path in zip(expected, paths)]
    local_node(databases=databases).start_online()

    def shared() -> dict[str, list[str]]:
        result: dict[str, list[str]] = {}
        for each in world.server.request("GET", f"/node/{world.node()}").get("config") or []:
            result.setdefault(each["key"], []).append(each["value"])
        return result

    until("the databases to be shared", lambda: len(shared().get("database_labels", [])) == len(paths))
    # A name that is none comes as an empty list, which the server does not keep.
    named = {key: names for key, names in shared().items() if key.startswith("columns_")}
    assert named == {key: names for key, names in expected.items() if names}
