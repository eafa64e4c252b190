#!/usr/bin/env python3
"""Made these files: invented employees of invented companies, always the same ones. Run it to make them again.

employees.csv is for a first try; employees-1.csv to -3.csv are three organizations' different rows of the same columns.
"""

import csv
import random
from pathlib import Path

FIRST = {
    "f": "Alba Bruna Cleo Dalia Edda Fenna Gerda Hilke Ines Jorun Kaia Lovisa Mirte Nadia Oda Petra Runa Sanne Tilde Ylva".split(),
    "m": "Anton Bram Casimir Dirk Egon Floris Gijs Hauke Ivar Joris Klaas Lauri Milo Nils Otto Piet Rasmus Sven Tobias Udo".split(),
}
LAST = "Achterberg Brandal Corvin Dalgaard Eikelboom Fjordhal Grauwert Holmvik Ijsselbron Jarnholt Kestelein Lindqvar Moerbeke Nordalen Oosterkamp Pallander Quistorp Rietvelde Sandmoor Tervuren".split()
# Department: what somebody there starts with, in a year, and how fast it grows with the years.
DEPARTMENTS = {"engineering": (46000, 0.031), "finance": (44000, 0.027), "nursing": (36000, 0.022), "research": (42000, 0.029), "support": (31000, 0.018)}
COLUMNS = ["id", "name", "department", "gender", "age", "hire_year", "salary"]
THIS_YEAR = 2024


def employee(id_: int, chance: random.Random) -> list:
    gender = chance.choice("fm")
    department = chance.choice(list(DEPARTMENTS))
    hire_year = chance.randint(1990, THIS_YEAR)
    years = THIS_YEAR - hire_year
    age = min(66, years + chance.randint(19, 45))
    start, growth = DEPARTMENTS[department]
    salary = round(start * (1 + growth) ** years * chance.gauss(1, 0.08), -2)
    name = f"{chance.choice(FIRST[gender])} {chance.choice(LAST)}"
    return [id_, name, department, gender, age, hire_year, int(salary)]


def write(path: Path, rows: int, seed: int) -> None:
    chance = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(employee(seed * 1000 + number, chance) for number in range(1, rows + 1))


if __name__ == "__main__":
    here = Path(__file__).parent
    write(here / "employees.csv", 300, seed=9)
    write(here / "employees-1.csv", 240, seed=1)
    write(here / "employees-2.csv", 310, seed=2)
    write(here / "employees-3.csv", 180, seed=3)
