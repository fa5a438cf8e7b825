"""Reviews, version 2.0: the good release. It also knows what "not" does to the next word."""

PRAISE = {"good", "great", "lovely"}
COMPLAINT = {"bad", "broken", "late"}


class Reviews:
    """Answers `{"text": "…"}` with a verdict, how sure it is, and its version."""

    def initialize(self, context):
        """Remember which version this is."""
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, data, context):
        """Judge each review of a batch."""
        return [self.judge(row["body"]["text"]) for row in data]

    def judge(self, text):
        """Return one answer; a review that says neither is neutral."""
        words = text.lower().split()
        score = sum(worth(word, before) for before, word in zip(["", *words], words, strict=False))
        verdict = "praise" if score > 0 else "complaint" if score < 0 else "neutral"
        return {"verdict": verdict, "score": score, "version": self.version}


def worth(word, before):
    """Return what one word adds to the score, turned round by a "not" before it."""
    value = (word in PRAISE) - (word in COMPLAINT)
    return -value if before == "not" else value
