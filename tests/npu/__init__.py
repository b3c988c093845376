"""Tests on a real Ascend card."""
