"""Task sequences under several strategies: `medseqft benchmark CONFIG`."""
