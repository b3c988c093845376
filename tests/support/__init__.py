"""What several tests share: the oracle, the cases, the C++ that they build."""
