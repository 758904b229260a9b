"""Every form in which the model might ship to a profile.

`build` gives, per profile, candidates (bytes that run) and what could not be built, with the reason. Profiles with the
same needs share candidates: a `Workshop` builds each once.
"""

from outrider_compiler.candidates.workshop import Workshop

__all__ = ["Workshop"]
