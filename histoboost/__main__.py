from histoboost.cli import main

main()
