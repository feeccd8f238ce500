"""`python -m MedSeqFTLib.commands`"""

from MedSeqFTLib.commands.app import main

if __name__ == "__main__":
    main()
