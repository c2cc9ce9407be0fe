"""Tests of the class-conditional evaluation."""
