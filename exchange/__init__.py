"""The hall: the control plane, its client and its command line. The data itself never passes here."""
