"""The record of a compile, and what is drawn from it."""

from qcompiler.report.record import (
    SCHEMA,
    Accuracy,
    Artifact,
    CandidateLine,
    Latency,
    NodeLine,
    PassLine,
    Report,
    TensorLine,
)

__all__ = [
    "SCHEMA",
    "Accuracy",
    "Artifact",
    "CandidateLine",
    "Latency",
    "NodeLine",
    "PassLine",
    "Report",
    "TensorLine",
]
