package geo

// The tables are built when asked for, which is when a spec is loaded: a package
// variable would be a global that anyone can change.

// places lists regions with the coordinates of their city: providers publish no
// exact sites, and 100 km are 1 ms of round trip.
func places() []Place {
	return append(awsPlaces(), otherPlaces()...)
}

func awsPlaces() []Place {
	return []Place{
		{"us-east-1", "Ashburn", 39.04, -77.49, "US"},
		{"us-east-2", "Columbus", 39.96, -83.00, "US"},
		{"us-west-1", "San Jose", 37.35, -121.96, "US"},
		{"us-west-2", "Boardman", 45.84, -119.70, "US"},
		{"ca-central-1", "Montreal", 45.50, -73.57, "CA"},
		{"ca-west-1", "Calgary", 51.05, -114.07, "CA"},
		{"mx-central-1", "Queretaro", 20.59, -100.39, "MX"},
		{"sa-east-1", "Sao Paulo", -23.55, -46.63, "BR"},
		{"eu-west-1", "Dublin", 53.35, -6.26, "IE"},
		{"eu-west-2", "London", 51.51, -0.13, "GB"},
		{"eu-west-3", "Paris", 48.86, 2.35, "FR"},
		{"eu-central-1", "Frankfurt", 50.11, 8.68, "DE"},
		{"eu-central-2", "Zurich", 47.37, 8.54, "CH"},
		{"eu-north-1", "Stockholm", 59.33, 18.07, "SE"},
		{"eu-south-1", "Milan", 45.46, 9.19, "IT"},
		{"eu-south-2", "Zaragoza", 41.65, -0.88, "ES"},
		{"af-south-1", "Cape Town", -33.92, 18.42, "ZA"},
		{"me-south-1", "Manama", 26.07, 50.55, "BH"},
		{"me-central-1", "Dubai", 25.20, 55.27, "AE"},
		{"il-central-1", "Tel Aviv", 32.08, 34.78, "IL"},
		{"ap-south-1", "Mumbai", 19.08, 72.88, "IN"},
		{"ap-south-2", "Hyderabad", 17.39, 78.49, "IN"},
		{"ap-southeast-1", "Singapore", 1.35, 103.82, "SG"},
		{"ap-southeast-2", "Sydney", -33.87, 151.21, "AU"},
		{"ap-southeast-3", "Jakarta", -6.21, 106.85, "ID"},
		{"ap-southeast-4", "Melbourne", -37.81, 144.96, "AU"},
		{"ap-northeast-1", "Tokyo", 35.69, 139.69, "JP"},
		{"ap-northeast-2", "Seoul", 37.57, 126.98, "KR"},
		{"ap-northeast-3", "Osaka", 34.69, 135.50, "JP"},
		{"ap-east-1", "Hong Kong", 22.30, 114.18, "HK"},
	}
}

func otherPlaces() []Place {
	return []Place{
		{"us-central1", "Council Bluffs", 41.26, -95.86, "US"},
		{"us-west1", "The Dalles", 45.59, -121.18, "US"},
		{"us-west2", "Los Angeles", 34.05, -118.24, "US"},
		{"us-east4", "Ashburn", 39.04, -77.49, "US"},
		{"northamerica-northeast1", "Montreal", 45.50, -73.57, "CA"},
		{"southamerica-east1", "Sao Paulo", -23.55, -46.63, "BR"},
		{"europe-west1", "St. Ghislain", 50.45, 3.82, "BE"},
		{"europe-west2", "London", 51.51, -0.13, "GB"},
		{"europe-west3", "Frankfurt", 50.11, 8.68, "DE"},
		{"europe-west4", "Eemshaven", 53.44, 6.83, "NL"},
		{"europe-north1", "Hamina", 60.57, 27.20, "FI"},
		{"asia-east1", "Changhua", 24.05, 120.52, "TW"},
		{"asia-northeast1", "Tokyo", 35.69, 139.69, "JP"},
		{"asia-south1", "Mumbai", 19.08, 72.88, "IN"},
		{"asia-southeast1", "Jurong West", 1.34, 103.71, "SG"},
		{"australia-southeast1", "Sydney", -33.87, 151.21, "AU"},

		{"eastus", "Virginia", 37.37, -79.82, "US"},
		{"westus2", "Quincy", 47.23, -119.85, "US"},
		{"brazilsouth", "Sao Paulo", -23.55, -46.63, "BR"},
		{"northeurope", "Dublin", 53.35, -6.26, "IE"},
		{"uksouth", "London", 51.51, -0.13, "GB"},
		{"westeurope", "Netherlands", 52.37, 4.90, "NL"},
		{"swedencentral", "Gavle", 60.67, 17.14, "SE"},
		{"japaneast", "Tokyo", 35.69, 139.69, "JP"},
		{"southeastasia", "Singapore", 1.35, 103.82, "SG"},
		{"australiaeast", "Sydney", -33.87, 151.21, "AU"},
		{"centralindia", "Pune", 18.58, 73.92, "IN"},
		{"uaenorth", "Dubai", 25.27, 55.32, "AE"},
		{"southafricanorth", "Johannesburg", -25.73, 28.22, "ZA"},
	}
}

// measurement is a round trip between two cloud regions.
type measurement struct {
	a, b string
	ms   float64
}

// measurements lists medians over a year. AWS: cloudping.co, October 2025, TCP
// connects from a function to the DynamoDB endpoint, mean of both directions.
// Azure: "Azure network round-trip latency statistics", April 2024.
func measurements() []measurement {
	return []measurement{
		{"us-west-2", "ap-south-1", 221.6},
		{"us-east-1", "us-west-2", 64.1},
		{"us-east-1", "us-east-2", 15.4},
		{"us-east-1", "ca-central-1", 16.3},
		{"us-east-1", "eu-west-1", 69.6},
		{"us-east-1", "eu-west-2", 77.6},
		{"us-east-1", "eu-central-1", 92.8},
		{"us-east-1", "sa-east-1", 115.3},
		{"us-east-1", "ap-northeast-1", 149.3},
		{"us-east-1", "ap-southeast-1", 218.9},
		{"us-east-1", "ap-southeast-2", 199.7},
		{"us-east-1", "ap-south-1", 191.0},
		{"us-east-1", "af-south-1", 226.9},
		{"us-west-2", "ap-northeast-1", 98.3},
		{"us-west-2", "ap-southeast-1", 160.5},
		{"us-west-2", "ap-southeast-2", 141.0},
		{"us-west-2", "eu-west-1", 118.3},
		{"eu-west-1", "eu-central-1", 27.1},
		{"eu-west-1", "eu-west-2", 13.7},
		{"eu-west-1", "af-south-1", 159.3},
		{"eu-west-2", "ap-northeast-1", 211.7},
		{"eu-central-1", "ap-south-1", 129.0},
		{"eu-central-1", "ap-southeast-1", 160.9},
		{"eu-central-1", "me-central-1", 115.7},
		{"ap-south-1", "ap-southeast-1", 63.6},
		{"ap-south-1", "ap-south-2", 25.4},
		{"ap-southeast-1", "ap-northeast-1", 70.6},
		{"ap-southeast-1", "ap-southeast-2", 94.7},
		{"ap-northeast-1", "ap-southeast-2", 106.9},
		{"ap-northeast-1", "ap-northeast-3", 9.9},
		{"ap-northeast-1", "ap-northeast-2", 36.2},
		{"sa-east-1", "af-south-1", 338.3},

		{"eastus", "northeurope", 70},
		{"eastus", "uksouth", 78},
		{"eastus", "westeurope", 84},
		{"eastus", "brazilsouth", 118},
		{"eastus", "japaneast", 158},
		{"eastus", "australiaeast", 204},
		{"eastus", "centralindia", 210},
		{"eastus", "southeastasia", 227},
		{"eastus", "southafricanorth", 233},
		{"westus2", "japaneast", 100},
		{"japaneast", "southeastasia", 72},
		{"australiaeast", "southeastasia", 90},
		{"westeurope", "southeastasia", 159},
	}
}
