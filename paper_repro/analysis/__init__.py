"""From result files to what they say: scores, intervals, comparisons."""
