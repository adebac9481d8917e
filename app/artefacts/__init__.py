"""Files that runs make, in a folder or wherever fsspec reaches: checkpoints, exports, logs, and what they take."""
