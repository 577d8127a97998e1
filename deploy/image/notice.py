#!/usr/bin/env python3
"""Writes to standard output what is to be said of every crate that is in the binary: name, version, licence, and the
texts that lie in its source. Crates that only build or test are left out.
    notice.py [--features LIST] [--target TRIPLE]
"""

import argparse
import json
import pathlib
import subprocess
import sys

TEXTS = ("licen", "copying", "notice", "copyright", "unlicense")


def crates(features, target):
    """The packages of the binary, by name and version."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--features", features,
               "--filter-platform", target]
    meta = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = {p["id"]: p for p in meta["packages"]}
    nodes = {n["id"]: n for n in meta["resolve"]["nodes"]}
    shipped, waiting = set(), [meta["resolve"]["root"]]
    while waiting:
        at = waiting.pop()
        if at in shipped:
            continue
        shipped.add(at)
        for dep in nodes[at]["deps"]:
            # A kind of null is an ordinary dependency; the others are `build` and `dev`.
            if any(kind["kind"] is None for kind in dep["dep_kinds"]):
                waiting.append(dep["pkg"])
    return sorted((packages[i] for i in shipped), key=lambda p: (p["name"], p["version"]))


def texts(package):
    """Licence texts in a package's source."""
    folder = pathlib.Path(package["manifest_path"]).parent
    named = [package["license_file"]] if package["license_file"] else []
    found = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name.lower().startswith(TEXTS)]
    found += [folder / name for name in named if folder / name not in found and (folder / name).is_file()]
    return [f.read_text(encoding="utf-8", errors="replace").strip() for f in found]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", default="aws,etcd")
    parser.add_argument("--target", default="x86_64-unknown-linux-gnu")
    args = parser.parse_args()

    packages = crates(args.features, args.target)
    without = [p["name"] for p in packages if not p["license"] and not p["license_file"]]
    if without:
        sys.exit("no licence is given by: " + ", ".join(without))

    print("Glasswatch holds the following software.\n")
    print("Libraries of the system: /usr/share/doc/glasswatch/packages lists them with their versions,")
    print("/usr/share/doc/NAME/copyright has the terms of each.\n")
    print("Crates:\n")
    numbers = {}
    for package in packages:
        of = [str(numbers.setdefault(text, len(numbers) + 1)) for text in texts(package)]
        where = f"; texts {', '.join(of)}" if of else ""
        print(f"- {package['name']} {package['version']}: {package['license'] or 'see text'}{where}")
    for text, number in numbers.items():
        print(f"\n{'-' * 78}\nText {number}\n{'-' * 78}\n\n{text}")


if __name__ == "__main__":
    main()
