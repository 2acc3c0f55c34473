"""`python -m nylon` is `nylon`."""

from nylon.cli import main

if __name__ == "__main__":
    main()
