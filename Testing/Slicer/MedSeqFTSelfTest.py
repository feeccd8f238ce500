"""Runs inside 3D Slicer only (ctest of the extension build): the installed module is found, opens and tests itself."""

import unittest

import slicer


class MedSeqFTSelfTest(unittest.TestCase):
    """What cannot be seen from outside: discovery by the module factory, and the module's own test on its button."""

    def test_module_is_discovered(self) -> None:
        self.assertTrue(hasattr(slicer.modules, "medseqft"), "the module factory did not find MedSeqFT")
        self.assertEqual(slicer.modules.medseqft.title, "MedSeqFT")

    def test_own_test_is_registered_and_passes(self) -> None:
        self.assertIn("MedSeqFT", slicer.selfTests)
        slicer.selfTests["MedSeqFT"](msec=1)
