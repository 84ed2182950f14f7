"""`python -m aml_edge` is `aml-edge`: for launchers that start modules, such as torchrun."""

from aml_edge.cli.app import main

if __name__ == "__main__":
    main()
