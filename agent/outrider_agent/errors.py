"""Every error the agent raises, in one tree.

Callers branch on the class, never on the text; `hint` is the sentence the operator sees.
"""


class AgentError(Exception):
    """Root of all errors the agent raises on purpose."""

    hint: str = ""
