"""`python -m sgdnoise`, and the command `sgdnoise`."""

import sys


def main() -> None:
    """Run the command line; without the extra `lab`, say that it is needed."""
    try:
        from sgdnoise.lab._command_line import app
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except ImportError as error:
        if "pip install" not in str(error):  # it does not name an extra, and is a mistake
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    app(prog_name="sgdnoise")


if __name__ == "__main__":
    main()
