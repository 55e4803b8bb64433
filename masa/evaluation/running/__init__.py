"""One evaluation from beginning to end: settings, model, samples, scores."""
