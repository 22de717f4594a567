"""`python -m fer_search COMMAND`."""

from fer_search.cli import main

if __name__ == "__main__":
    main()
