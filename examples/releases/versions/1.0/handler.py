"""Reviews, version 1.0: counts words that praise and words that complain."""

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
        score = sum(word in PRAISE for word in words) - sum(word in COMPLAINT for word in words)
        verdict = "praise" if score > 0 else "complaint" if score < 0 else "neutral"
        return {"verdict": verdict, "score": score, "version": self.version}
