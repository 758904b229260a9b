"""The demo's judge: reads the server's database, the devices' directories and the ground truth alone.

1. One function a claim (D1 … D14); each returns what it found beside what it demands.
2. Thresholds stand here, not in the story.
3. What a run left out is a failure of the claim that needs it, with the missing thing named.

    python -m examples.watch.checker .demo/run
"""
