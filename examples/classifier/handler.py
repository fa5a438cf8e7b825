"""The example's handler: JSON measurements in, the grower and how sure the model is out."""

import json

import torch

from ts.torch_handler.base_handler import BaseHandler


class WineHandler(BaseHandler):
    """Answers `{"features": [ten numbers]}`.

    Loading the model and the class names is BaseHandler's own `initialize`.
    """

    def preprocess(self, data):
        """Turn the requests of one batch into one tensor, float32 [N, 10]."""
        rows = [features_of(request) for request in data]
        return torch.tensor(rows, dtype=torch.float32, device=self.device)

    def inference(self, data, *args, **kwargs):
        """Return probabilities, float32 [N, 3]."""
        return torch.softmax(super().inference(data, *args, **kwargs), dim=1)

    def postprocess(self, data):
        """Describe each row's best class in the words of index_to_name.json."""
        return [self.describe_row(probabilities) for probabilities in data.tolist()]

    def describe_row(self, probabilities):
        """Return one request's answer."""
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        return {
            "predicted_class": best,
            "confidence": probabilities[best],
            "probabilities": probabilities,
            "class_name": self.mapping[str(best)],
        }


def features_of(request):
    """Return the ten numbers of a request, whose body may come parsed or as bytes."""
    body = request.get("body") or request.get("data")
    if isinstance(body, (bytes, bytearray)):
        body = json.loads(body)
    return body["features"]
