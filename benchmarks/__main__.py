"""What each benchmark measures, and how it is started.

python -m benchmarks
"""

import ast
from pathlib import Path


def main() -> None:
    """Print the first paragraph of each benchmark's docstring and the command below it."""
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        what, how = (ast.get_docstring(ast.parse(file.read_bytes())) or "").split("\n\n")[:2]
        print(f"{what}\n{how}\n")


if __name__ == "__main__":
    main()
