"""`python -m outrider_agent.worker --artifact DIR --model M --role serve|shadow|probe`."""

import sys

from outrider_agent.worker.process import main

sys.exit(main())
